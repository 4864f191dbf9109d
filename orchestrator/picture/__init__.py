"""Pictures and pages of the record of results, for people."""
