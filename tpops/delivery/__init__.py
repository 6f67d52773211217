"""Mail that arrives: the commands tpops-store, tpops-pipe and tpops-useradd, and what they share."""
