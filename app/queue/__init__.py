"""Wake-ups, probes and progress over Redis. Losing all of it costs latency, never an edit."""
