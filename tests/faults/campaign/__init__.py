"""The fault campaign: many small studies sent while everything that can break breaks, then a stranger's verdict."""
