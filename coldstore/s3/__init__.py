"""
The S3 protocol: from bytes on a socket to one named operation, and from its answer back to bytes.

The way of a request::

    site, request      headers are complete: size and framing are checked, the body waits in the socket
    paths, fields      raw target -> bucket, key (bytes, decoded once), query; never through a URL library's normalising
    auth               SigV4 by header or presigned URL, SigV2 presigned; the caller is known before a byte is taken
    api, routes        method, path and query -> one ``Operation`` or the refusal that names what is not built
    resource           runs the registered operation, turns answers and errors into HTTP, one log event per request
    body, chunked      the operation asks for the body: 100-continue, decoding, chunk signatures, back-pressure
    integrity          which digests must be computed, and what is said when they differ
    encryption         the key that a customer brings, or ours; what is written is encrypted on its way, what is read decrypted

Decisions: Klein sees one catch-all route, because its path matching merges slashes and decodes keys. Nothing is
spooled. An answer given before the body has ended closes the connection. Nothing becomes visible before ``check`` of
the integrity plan has passed. What is not built answers 501.

Imports model, plan, ontape, interfaces and util.
"""
