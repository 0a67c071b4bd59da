"""Which route, which order, may I, is it healthy. Pure: facts and `now` in, decisions out."""
