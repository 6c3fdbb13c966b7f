"""The officers' web page: the unit's queue, a case, an answer. It reads MongoDB and acts through events."""
