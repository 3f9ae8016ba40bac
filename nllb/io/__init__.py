"""Files: text, compression, atomic writes, corpora, test sets, token shards, word lists, HTML."""
