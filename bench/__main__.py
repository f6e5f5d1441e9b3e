"""
`make bench`: every comparison of this folder, as ratios.
"""

from bench import recording, segment_size

if __name__ == "__main__":
    segment_size.main()
    recording.main()
