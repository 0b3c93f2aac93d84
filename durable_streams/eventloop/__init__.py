"""Every helper that knows gevent: turns for the loop, deadlines, client watches and threads."""
