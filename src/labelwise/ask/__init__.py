"""Who answers the queries, and what an answer costs."""
