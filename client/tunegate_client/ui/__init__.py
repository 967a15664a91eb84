"""The read-only web page of ``tunegate ui``: jobs and gates, in a runs folder or on a cluster."""
