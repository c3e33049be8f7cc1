"""Files and folders that belong to a collection."""

COLLECTION_FOLDER = ".searchctl"
CATALOGUE_FILE = "catalogue.db"
OWNER_FILE = "owner.json"
"""Who holds the write lock."""
TRASH_FOLDER = ".searchctl-trash"
"""Where `dedup apply` puts files, beside the collection."""
