"""
Comparisons that print ratios: `make bench`, or one of them by itself, `python -m bench.recording`.
"""
