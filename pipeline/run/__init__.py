"""One run on this machine: runner, progress, the record of a run, refreshes."""
