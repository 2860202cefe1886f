"""Pure: what a service's parts are called, what is refused, what is done next, how many instances there should be."""
