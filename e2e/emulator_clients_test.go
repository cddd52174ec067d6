//go:build clients

package e2e

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// emulator stands for AWS for deployment tools: enough of CloudFormation, S3 and Lambda for them to proceed, and
// the simulator for STS. It records who signed each request.
type emulator struct {
	url string
	sim http.Handler

	mu       sync.Mutex
	arrivals []arrival
	objects  map[string][]byte // bucket/key
	changes  bool              // there is a change set
	stack    string            // last operation on the stack: "UPDATE", "CREATE", or empty if there is no stack
}

// arrival is one request: its operation, and the session that signed it.
type arrival struct{ what, keyID, token string }

func (a arrival) String() string { return a.what + " of " + a.keyID }

func startEmulator(t *testing.T, h *house) *emulator {
	t.Helper()
	sim, err := url.Parse(h.sim.url)
	must(t, err)
	// Keep the Host header, since it is signed.
	e := &emulator{sim: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = sim.Scheme, sim.Host, r.In.Host
	}}}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	e.url = server.URL
	e.forget(false)
	return e
}

// forget resets the emulator to the start: without a stack if fresh, or else with an earlier deployment.
func (e *emulator) forget(fresh bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.arrivals, e.objects, e.changes, e.stack = nil, map[string][]byte{}, false, "UPDATE"
	if fresh {
		e.stack = ""
	}
}

func (e *emulator) arrived() []arrival {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.arrivals
}

// did reports whether a request of that kind arrived.
func (e *emulator) did(what string) bool {
	for _, a := range e.arrived() {
		if strings.Contains(a.what, what) {
			return true
		}
	}
	return false
}

var credentialScope = regexp.MustCompile(`Credential=([^/]+)/`)

func (e *emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	action := r.URL.Query().Get("Action")
	form := r.URL.Query()
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if form, err = url.ParseQuery(string(body)); err == nil {
			action = form.Get("Action")
		}
	}
	a := arrival{
		what: strings.TrimSpace(
			fmt.Sprintf("%s %s%s %s %s", r.Method, r.Host, r.URL.Path, action, form.Get("ChangeSetType")),
		),
		token: r.Header.Get("X-Amz-Security-Token"),
	}
	if m := credentialScope.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
		a.keyID = m[1]
	}
	e.mu.Lock()
	e.arrivals = append(e.arrivals, a)
	e.mu.Unlock()
	switch {
	case a.keyID == "":
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
	case action == "GetCallerIdentity" || action == "AssumeRole":
		r.Body = io.NopCloser(bytes.NewReader(body))
		e.sim.ServeHTTP(w, r)
	case action != "":
		e.cloudFormation(w, action, form)
	case strings.HasPrefix(r.URL.Path, "/2015-03-31/functions/"):
		// There is no function of that name; the deployment proceeds without comparing.
		w.Header().Set("X-Amzn-Errortype", "ResourceNotFoundException")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"Type":"User","Message":"Function not found"}`)
	default:
		e.s3(w, r, body)
	}
}

// cloudFormation has one stack for every name, and completes every change at once.
func (e *emulator) cloudFormation(w http.ResponseWriter, action string, form url.Values) {
	name := form.Get("StackName")
	if i := strings.Index(name, ":stack/"); i >= 0 {
		name, _, _ = strings.Cut(name[i+len(":stack/"):], "/")
	}
	id := "arn:aws:cloudformation:eu-west-1:444455556666:stack/" + name + "/00000000-0000-4000-8000-000000000000"
	change := strings.Replace(id, ":stack/", ":changeSet/", 1)
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	event := func(n int, status string) string {
		return fmt.Sprintf("<member><EventId>%s-%d</EventId><StackId>%s</StackId><StackName>%s</StackName><LogicalResourceId>%s</LogicalResourceId><PhysicalResourceId>%s</PhysicalResourceId><ResourceType>AWS::CloudFormation::Stack</ResourceType><Timestamp>%s</Timestamp><ResourceStatus>%s</ResourceStatus></member>",
			now, n, id, name, name, id, now, status)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var out string
	switch action {
	case "DeleteChangeSet":
		e.changes = false
	case "ExecuteChangeSet":
		if e.changes = false; e.stack == "" {
			e.stack = "CREATE"
		} else {
			e.stack = "UPDATE"
		}
	case "DescribeStacks":
		if e.stack == "" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code><Message>Stack with id %s does not exist</Message></Error></ErrorResponse>", name)
			return
		}
		out = fmt.Sprintf("<Stacks><member><StackId>%s</StackId><StackName>%s</StackName><CreationTime>2026-01-01T00:00:00Z</CreationTime><StackStatus>%s_COMPLETE</StackStatus><Outputs><member><OutputKey>ServerlessDeploymentBucketName</OutputKey><OutputValue>product-deployments</OutputValue></member></Outputs></member></Stacks>", id, name, e.stack)
	case "DescribeStackResource":
		out = fmt.Sprintf("<StackResourceDetail><StackId>%s</StackId><StackName>%s</StackName><LogicalResourceId>ServerlessDeploymentBucket</LogicalResourceId><PhysicalResourceId>product-deployments</PhysicalResourceId><ResourceType>AWS::S3::Bucket</ResourceType><LastUpdatedTimestamp>2026-01-01T00:00:00Z</LastUpdatedTimestamp><ResourceStatus>CREATE_COMPLETE</ResourceStatus></StackResourceDetail>", id, name)
	case "ListStackResources":
		out = "<StackResourceSummaries></StackResourceSummaries>"
	case "DescribeStackEvents":
		out = "<StackEvents>" + event(2, e.stack+"_COMPLETE") + event(1, e.stack+"_IN_PROGRESS") + "</StackEvents>"
	case "CreateChangeSet":
		e.changes = true
		out = "<Id>" + change + "</Id><StackId>" + id + "</StackId>"
	case "DescribeChangeSet":
		if !e.changes {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<ErrorResponse><Error><Type>Sender</Type><Code>ChangeSetNotFound</Code><Message>ChangeSet does not exist</Message></Error></ErrorResponse>")
			return
		}
		out = fmt.Sprintf("<ChangeSetId>%s</ChangeSetId><ChangeSetName>%s</ChangeSetName><StackId>%s</StackId><StackName>%s</StackName><Status>CREATE_COMPLETE</Status><ExecutionStatus>AVAILABLE</ExecutionStatus><Changes><member><Type>Resource</Type><ResourceChange><Action>Modify</Action><LogicalResourceId>Topic</LogicalResourceId><ResourceType>AWS::SNS::Topic</ResourceType><Replacement>False</Replacement></ResourceChange></member></Changes>",
			change, form.Get("ChangeSetName"), id, name)
	case "GetTemplate":
		out = "<TemplateBody>{}</TemplateBody>"
	}
	w.Header().Set("Content-Type", "text/xml")
	_, _ = fmt.Fprintf(w, `<%sResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><%sResult>%s</%sResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></%sResponse>`, action, action, out, action, action)
}

// s3 stores objects, addressed by host or by path.
func (e *emulator) s3(w http.ResponseWriter, r *http.Request, body []byte) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	if bucket, _, ok := strings.Cut(r.Host, ".s3."); ok {
		path = bucket + "/" + path
	}
	bucket, key, _ := strings.Cut(path, "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	w.Header().Set("Content-Type", "application/xml")
	switch query := r.URL.Query(); {
	case r.Method == http.MethodPut && key != "":
		e.objects[path] = body
		w.Header().Set("Etag", `"0"`)
	case r.Method == http.MethodDelete && key != "":
		delete(e.objects, path)
		w.WriteHeader(http.StatusNoContent)
	case key != "" && e.objects[path] == nil:
		w.WriteHeader(http.StatusNotFound)
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>")
		}
	case key != "":
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("Etag", `"0"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(e.objects[path])))
		if r.Method != http.MethodHead {
			_, _ = w.Write(e.objects[path])
		}
	case r.Method != http.MethodGet:
	case query.Has("location"):
		_, _ = io.WriteString(w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">eu-west-1</LocationConstraint>`)
	case bucket == "":
		_, _ = io.WriteString(w, `<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Buckets></Buckets></ListAllMyBucketsResult>`)
	default:
		_, _ = io.WriteString(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>`+bucket+`</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>`)
		for name, data := range e.objects {
			if name, ok := strings.CutPrefix(name, bucket+"/"); ok && strings.HasPrefix(name, query.Get("prefix")) {
				var escaped bytes.Buffer
				_ = xml.EscapeText(&escaped, []byte(name))
				_, _ = fmt.Fprintf(w, `<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"0"</ETag><Size>%d</Size></Contents>`, escaped.String(), len(data))
			}
		}
		_, _ = io.WriteString(w, `</ListBucketResult>`)
	}
}
