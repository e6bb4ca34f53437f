"""Models beside each other on data sets, over seeds: the suite, the runs, the tables and the page."""
