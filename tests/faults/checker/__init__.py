"""Judges an installation after faults by what a stranger can see: raw SQL, files, and the sender's own ledger.

It shares no code with Tendon, so that no error of Tendon's can hide itself here.
"""
