"""``ppar report``: the runs of a setting over seeds, as tables, CSV and chart."""
