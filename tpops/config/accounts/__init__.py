"""The keys of [[accounts]], one model for each driver."""
