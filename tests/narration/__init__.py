"""
Tests of the plain floor.
"""
