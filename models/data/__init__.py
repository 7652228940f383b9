"""What models read: item table, event log, tf.Examples, request parser, Transform's preprocessing."""
