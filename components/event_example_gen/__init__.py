"""EventExampleGen: the events table as one tf.Example a session, split by time."""
