"""``ppar report``: tables over seeds, comparisons of runs, and the page of a run."""
