"""One cluster: its contract (`contract.py`) and its inventory (`inventory.py`)."""
