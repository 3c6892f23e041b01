// Java's HttpClient over the HTTP version of the argument.
import java.net.URI;
import java.net.http.*;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HexFormat;

class Client {
    static final HttpRequest.BodyPublisher NONE = HttpRequest.BodyPublishers.noBody();
    static HttpClient client;

    static <T> HttpResponse<T> send(String method, String path, HttpRequest.BodyPublisher body, HttpResponse.BodyHandler<T> handler)
            throws Exception {
        var request = HttpRequest.newBuilder(URI.create("https://api.test" + path)).method(method, body);
        return client.send(request.header("X-Client", "a,  b").build(), handler);
    }

    static void tell(String method, String path, HttpRequest.BodyPublisher body) throws Exception {
        var answer = send(method, path, body, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.version() + " " + answer.statusCode() + " " + answer.headers().map() + " " + answer.body());
    }

    public static void main(String[] arguments) throws Exception {
        var builder = HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL);
        client = builder.version(HttpClient.Version.valueOf(arguments[0])).build();
        tell("GET", "/seen?of=java&empty=", NONE);
        tell("GET", "/missing", NONE);
        tell("GET", "/cookies", NONE);
        tell("GET", "/elsewhere", NONE);
        var bytes = new byte[300_000];
        Arrays.fill(bytes, (byte) 'x');
        tell("POST", "/form", HttpRequest.BodyPublishers.ofByteArray(bytes));
        var large = send("GET", "/large", NONE, HttpResponse.BodyHandlers.ofByteArray());
        var hash = MessageDigest.getInstance("SHA-256").digest(large.body());
        System.out.println(large.version() + " " + large.body().length + " " + HexFormat.of().formatHex(hash));
    }
}
