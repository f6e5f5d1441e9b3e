"""
Tests: they mirror flows/, and talk to the sandbox over HTTP.
"""
