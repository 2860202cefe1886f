"""Images: names (`reference`), the distribution API (`registry`), layers on disk (`unpack`), all together (`store`)."""
