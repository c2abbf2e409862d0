"""Loggers: where a run's numbers go beside its report. One file each, and the file's name is the logger's (`log.to`).

A logger is a function `log(entries, about, *, ...)`. It is given everything that the run has to say so far, after every
stage and when a run begins or goes on, and hands over what its store lacks: by what the store holds, not by what this
process has sent. So a run that was killed at any instant goes on in the same place, and the same call again adds
nothing. Its package is imported when it is called (`_entries.load`).
"""
