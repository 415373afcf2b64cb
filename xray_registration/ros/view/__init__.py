"""The browser view: listens to a registration node over DDS, shows it over HTTP and WebSocket."""
