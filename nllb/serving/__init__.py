"""An HTTP server that is compatible with clients of LibreTranslate, DeepL and Google.

`server` starts it, `app` assembles it, `routes/` has one module per protocol, and `segment_queue`
combines the segments of concurrent requests into batches. The server requires the extra `[serve]`.
"""
