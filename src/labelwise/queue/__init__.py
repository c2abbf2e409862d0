"""The page's queue: leases, people, their passwords."""
