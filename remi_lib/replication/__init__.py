"""What any replication needs: results, workers, parameters, notebooks, claims, pages.

This wing knows no loss and no data set.  It imports the ground of the library only (paths,
progress, intervals); what it needs to know of the experiments is handed in.
"""
