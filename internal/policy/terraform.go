package policy

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Terraform returns the document as a data source of Terraform's AWS provider, in the layout of `terraform fmt`. Use it
// as data.aws_iam_policy_document.NAME.json.
// https://registry.terraform.io/providers/hashicorp/aws/latest/docs/data-sources/iam_policy_document
func (d Document) Terraform(name string) []byte {
	var b bytes.Buffer
	list := func(indent, key string, values []string) {
		if len(values) == 0 {
			return
		}
		fmt.Fprintf(&b, "%s%s = [\n", indent, key)
		for _, v := range values {
			fmt.Fprintf(&b, "%s  %s,\n", indent, quoted(v))
		}
		fmt.Fprintf(&b, "%s]\n", indent)
	}
	fmt.Fprintf(&b, "data \"aws_iam_policy_document\" %s {\n", quoted(name))
	for i, s := range d.Statement {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "  statement {\n    sid    = %s\n    effect = %s\n", quoted(s.Sid), quoted(s.Effect))
		list("    ", "actions", s.Action)
		list("    ", "not_actions", s.NotAction)
		list("    ", "resources", s.Resource)
		if s.Principal != nil {
			b.WriteString("\n    principals {\n      type = \"AWS\"\n")
			list("      ", "identifiers", s.Principal.AWS)
			b.WriteString("    }\n")
		}
		for _, operator := range slices.Sorted(maps.Keys(s.Condition)) {
			for _, key := range slices.Sorted(maps.Keys(s.Condition[operator])) {
				fmt.Fprintf(&b, "\n    condition {\n      test     = %s\n      variable = %s\n", quoted(operator), quoted(key))
				list("      ", "values", s.Condition[operator][key])
				b.WriteString("    }\n")
			}
		}
		b.WriteString("  }\n")
	}
	b.WriteString("}\n")
	return b.Bytes()
}

// quoted returns a string of Terraform. The values of a document have no backslash, quote or control character.
// Terraform's own templates begin with ${ and %{.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "${", "$${", "%{", "%%{").Replace(s) + `"`
}
