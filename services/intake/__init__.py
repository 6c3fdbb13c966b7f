"""intake: one webhook address for all pages; verifies, normalises and keeps whatever the channel sends."""
