"""
Tests of the sandbox.
"""
