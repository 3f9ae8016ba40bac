"""The server: one HTTP service that clients of LibreTranslate, DeepL and Google already speak to.

`server` starts it, `app` assembles it, `routes/` has one module per protocol, and `segment_queue`
joins the segments of concurrent requests into batches. Needs the extra `[serve]`.
"""
