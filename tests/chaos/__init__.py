"""Every part of a service is shot, frozen or emptied at random, and then the books are read.

`python -m tests.chaos` is the long run, test_chaos.py a short one.
"""
