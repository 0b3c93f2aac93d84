"""Who is waiting: wakes, never data. gevent lives here."""
