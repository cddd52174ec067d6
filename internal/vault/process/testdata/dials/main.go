// Command dials imports the keyring library unmodified. It shows that the test of package nodbus can fail.
package main

import _ "github.com/99designs/keyring"

func main() {}
