"""The kinds of [[sink]], one model for each driver."""
