"""
Tests of reading books.
"""
