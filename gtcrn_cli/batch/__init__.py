"""Folders: what there is to do, who does it, what was done, and the report on it."""
