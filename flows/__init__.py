"""
Narrate: clone a voice once, then narrate folders of scripts with it, as Prefect flows.
"""
