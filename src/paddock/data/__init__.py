"""From documents to training batches: readers, cleaning, token shards, packing, order, mixing."""
