"""CatalogExampleGen: items (with the weeks they were promoted) and users as tf.Examples."""
