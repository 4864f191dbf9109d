"""The rules of the house, pure: standard library and numpy, no clock, no I/O, no logging.

Everybody may import this package; it imports nothing of ours.
"""
