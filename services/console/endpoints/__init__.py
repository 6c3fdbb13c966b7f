"""HTTP edge: pages for officers, the live stream, and the API for programs. Each route declares its access rule."""
