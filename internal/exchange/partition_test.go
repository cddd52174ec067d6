package exchange

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"broker/internal/partition"
)

// TestPartitions compares our table, region by region, with the file from which the SDK's endpoint rules are
// generated.
func TestPartitions(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)),
		"internal", "endpoints", "awsrulesfn", "partitions.json"))
	if err != nil {
		t.Fatal(err)
	}
	var sdk struct {
		Partitions []struct {
			ID      string
			Regions map[string]any
		}
	}
	if err := json.Unmarshal(data, &sdk); err != nil {
		t.Fatal(err)
	}
	if len(sdk.Partitions) != len(partition.IDs()) {
		t.Errorf("the SDK knows %d partitions, our table has %d", len(sdk.Partitions), len(partition.IDs()))
	}
	regions := 0
	for _, p := range sdk.Partitions {
		ours, ok := partition.Find(p.ID)
		if !ok {
			t.Errorf("our table has no partition %s", p.ID)
			continue
		}
		if _, real := p.Regions[ours.FirstRegion]; !real || partition.OfRegion(ours.FirstRegion) != p.ID {
			t.Errorf("%s: %s is not one of its regions", p.ID, ours.FirstRegion)
		}
		for region := range p.Regions {
			if strings.HasSuffix(region, "-global") {
				continue // a pseudo region
			}
			regions++
			if got := partition.OfRegion(region); got != p.ID {
				t.Errorf("%s is in %s, not in %q", region, p.ID, got)
			}
		}
	}
	if regions < 40 {
		t.Errorf("only %d regions were compared: the test proves nothing", regions)
	}
	for _, other := range []string{"", "aws-global", "minio", "us-east", "xus-east-1", "us-east-1x", "cn-evil.com-1"} {
		if got := partition.OfRegion(other); got != "" {
			t.Errorf("%q counts as a region of %s", other, got)
		}
	}
}
