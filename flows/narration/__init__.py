"""
The plain floor: everything that does the work. It never imports Prefect and never reads the environment.
"""
