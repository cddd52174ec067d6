import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(s):
        b=s.rfile.read(int(s.headers['content-length'])); print(s.headers['host'],b[:300],flush=True)
        s.send_response(400); s.end_headers(); s.wfile.write(b'<ErrorResponse><Error><Code>ValidationError</Code><Message>no</Message></Error></ErrorResponse>')
    do_GET=do_POST
http.server.HTTPServer(('127.0.0.1',18777),H).serve_forever()
