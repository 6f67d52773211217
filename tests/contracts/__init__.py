"""What every implementation of an interface has to keep to: mixins for test cases."""
