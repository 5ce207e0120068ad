"""The page of an inspection: one HTML file that needs nothing else, no script and no network."""
