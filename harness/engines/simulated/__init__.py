"""An engine that computes nothing: it sleeps and draws masks, for tests, fleets and failures without weights."""
