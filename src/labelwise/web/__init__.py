"""The labelling page: server and static files; reads and writes only through the ledger and the queue."""
