class Broker < Formula
  desc "@DESC@"
  homepage "https://@MODULE@"
  url "https://@MODULE@.git", tag: "v@VERSION@", revision: "@COMMIT@"
  license "MIT"

  depends_on "go" => :build

  def install
    # The keychain of macOS needs cgo.
    system "make", "install", "PREFIX=#{prefix}", "CGO_ENABLED=1"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/broker version")
    assert_match "usage: credproc", shell_output("#{bin}/credproc --help")
  end
end
