"""The content management API: posts over HTTP, kept in MongoDB, hot reads in Redis."""
